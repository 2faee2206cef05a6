"""Which type of directory record references an instance of which SOP class: a table, and nothing else (PS3.3 Table F.4-1, PS3.4 B.5).

A SOP class that is in none of the rows is either an image by its registered name, or it is unknown and gets a PRIVATE record.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydicom import config, uid

_SOP_CLASSES: Mapping[str, tuple[uid.UID, ...]] = {
    "RT DOSE": (uid.RTDoseStorage,),
    "RT STRUCTURE SET": (uid.RTStructureSetStorage,),
    "RT PLAN": (uid.RTPlanStorage, uid.RTIonPlanStorage),
    "RT TREAT RECORD": (
        uid.RTBeamsTreatmentRecordStorage,
        uid.RTBrachyTreatmentRecordStorage,
        uid.RTTreatmentSummaryRecordStorage,
        uid.RTIonBeamsTreatmentRecordStorage,
    ),
    "PRESENTATION": (
        uid.GrayscaleSoftcopyPresentationStateStorage,
        uid.ColorSoftcopyPresentationStateStorage,
        uid.PseudoColorSoftcopyPresentationStateStorage,
        uid.BlendingSoftcopyPresentationStateStorage,
        uid.XAXRFGrayscaleSoftcopyPresentationStateStorage,
        uid.GrayscalePlanarMPRVolumetricPresentationStateStorage,
        uid.CompositingPlanarMPRVolumetricPresentationStateStorage,
        uid.AdvancedBlendingPresentationStateStorage,
        uid.VolumeRenderingVolumetricPresentationStateStorage,
        uid.SegmentedVolumeRenderingVolumetricPresentationStateStorage,
        uid.MultipleVolumeRenderingVolumetricPresentationStateStorage,
        uid.VariableModalityLUTSoftcopyPresentationStateStorage,
        uid.BasicStructuredDisplayStorage,
    ),
    "WAVEFORM": (
        uid.TwelveLeadECGWaveformStorage,
        uid.GeneralECGWaveformStorage,
        uid.AmbulatoryECGWaveformStorage,
        uid.General32bitECGWaveformStorage,
        uid.HemodynamicWaveformStorage,
        uid.CardiacElectrophysiologyWaveformStorage,
        uid.BasicVoiceAudioWaveformStorage,
        uid.GeneralAudioWaveformStorage,
        uid.ArterialPulseWaveformStorage,
        uid.RespiratoryWaveformStorage,
        uid.MultichannelRespiratoryWaveformStorage,
        uid.RoutineScalpElectroencephalogramWaveformStorage,
        uid.ElectromyogramWaveformStorage,
        uid.ElectrooculogramWaveformStorage,
        uid.SleepElectroencephalogramWaveformStorage,
        uid.BodyPositionWaveformStorage,
    ),
    "SR DOCUMENT": (
        uid.BasicTextSRStorage,
        uid.EnhancedSRStorage,
        uid.ComprehensiveSRStorage,
        uid.Comprehensive3DSRStorage,
        uid.ExtensibleSRStorage,
        uid.ProcedureLogStorage,
        uid.MammographyCADSRStorage,
        uid.ChestCADSRStorage,
        uid.XRayRadiationDoseSRStorage,
        uid.EnhancedXRayRadiationDoseSRStorage,
        uid.RadiopharmaceuticalRadiationDoseSRStorage,
        uid.ColonCADSRStorage,
        uid.ImplantationPlanSRStorage,
        uid.AcquisitionContextSRStorage,
        uid.SimplifiedAdultEchoSRStorage,
        uid.PatientRadiationDoseSRStorage,
        uid.PlannedImagingAgentAdministrationSRStorage,
        uid.PerformedImagingAgentAdministrationSRStorage,
        uid.WaveformAnnotationSRStorage,
        uid.SpectaclePrescriptionReportStorage,
        uid.MacularGridThicknessAndVolumeReportStorage,
    ),
    "KEY OBJECT DOC": (uid.KeyObjectSelectionDocumentStorage,),
    "SPECTROSCOPY": (uid.MRSpectroscopyStorage,),
    "RAW DATA": (uid.RawDataStorage,),
    "REGISTRATION": (uid.SpatialRegistrationStorage, uid.DeformableSpatialRegistrationStorage),
    "FIDUCIAL": (uid.SpatialFiducialsStorage,),
    "VALUE MAP": (uid.RealWorldValueMappingStorage,),
    "ENCAP DOC": (
        uid.EncapsulatedPDFStorage,
        uid.EncapsulatedCDAStorage,
        uid.EncapsulatedSTLStorage,
        uid.EncapsulatedOBJStorage,
        uid.EncapsulatedMTLStorage,
    ),
    "STEREOMETRIC": (uid.StereometricRelationshipStorage,),
    "SURFACE": (uid.SurfaceSegmentationStorage,),
    "SURFACE SCAN": (uid.SurfaceScanMeshStorage, uid.SurfaceScanPointCloudStorage),
    "MEASUREMENT": (
        uid.LensometryMeasurementsStorage,
        uid.AutorefractionMeasurementsStorage,
        uid.KeratometryMeasurementsStorage,
        uid.SubjectiveRefractionMeasurementsStorage,
        uid.VisualAcuityMeasurementsStorage,
        uid.OphthalmicAxialMeasurementsStorage,
        uid.IntraocularLensCalculationsStorage,
        uid.OphthalmicVisualFieldStaticPerimetryMeasurementsStorage,
    ),
    "TRACT": (uid.TractographyResultsStorage,),
    "ASSESSMENT": (uid.ContentAssessmentResultsStorage,),
    "RADIOTHERAPY": (
        uid.RTPhysicianIntentStorage,
        uid.RTSegmentAnnotationStorage,
        uid.RTRadiationSetStorage,
        uid.CArmPhotonElectronRadiationStorage,
        uid.TomotherapeuticRadiationStorage,
        uid.RoboticArmRadiationStorage,
        uid.RTRadiationRecordSetStorage,
        uid.RTRadiationSalvageRecordStorage,
        uid.TomotherapeuticRadiationRecordStorage,
        uid.CArmPhotonElectronRadiationRecordStorage,
        uid.RoboticRadiationRecordStorage,
        uid.RTRadiationSetDeliveryInstructionStorage,
        uid.RTTreatmentPreparationStorage,
        uid.RTPatientPositionAcquisitionInstructionStorage,
    ),
    "PLAN": (uid.RTBeamsDeliveryInstructionStorage, uid.RTBrachyApplicationSetupDeliveryInstructionStorage),
    "ANNOTATION": (uid.MicroscopyBulkSimpleAnnotationsStorage,),
    # Images whose registered names do not say so.
    "IMAGE": (
        uid.EnhancedUSVolumeStorage,
        uid.SegmentationStorage,
        uid.ParametricMapStorage,
        uid.OphthalmicThicknessMapStorage,
        uid.CornealTopographyMapStorage,
        uid.OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage,
        uid.UID("1.2.840.10008.5.1.4.1.1.12.3"),  # X-Ray Angiographic Bi-Plane Image Storage, retired
    ),
    # At the root of the directory, without a patient.
    "HANGING PROTOCOL": (uid.HangingProtocolStorage,),
    "PALETTE": (uid.ColorPaletteStorage,),
    "IMPLANT": (uid.GenericImplantTemplateStorage,),
    "IMPLANT ASSY": (uid.ImplantAssemblyTemplateStorage,),
    "IMPLANT GROUP": (uid.ImplantTemplateGroupStorage,),
    "INVENTORY": (uid.InventoryStorage,),
}

_RECORD_TYPE_OF: Mapping[str, str] = {
    str(sop_class_uid): record_type for record_type, sop_class_uids in _SOP_CLASSES.items() for sop_class_uid in sop_class_uids
}

# Records at the root of the directory that reference a file: PS3.3 Table F.4-1, Root Directory Entity.
ROOT_RECORD_TYPES = frozenset({"HANGING PROTOCOL", "PALETTE", "IMPLANT", "IMPLANT ASSY", "IMPLANT GROUP", "INVENTORY"})

# (0004,1432) of the PRIVATE records of mkisod: a file of a SOP class for which the standard has no type of record.
PRIVATE_RECORD_UID = "2.25.240868531146938474393019478213216404275"


def find_record_type(sop_class_uid: str) -> str:
    """The Directory Record Type (0004,1430) for an instance of this SOP class; PRIVATE where the standard has none."""
    record_type = _RECORD_TYPE_OF.get(sop_class_uid)
    if record_type is None:
        # pydicom gives an unregistered UID itself as its name; whether it is a well-formed one does not matter here.
        record_type = "IMAGE" if "Image Storage" in uid.UID(sop_class_uid, config.IGNORE).name else "PRIVATE"
    return record_type
